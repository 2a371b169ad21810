"""Cyborg: what it sends once accelerator requests are bound. It reports by raising or not."""

from cyborg.common import nova_client
from cyborg.conf import CONF

import driver

ACCESS = driver.access()
CONF(["--config-file", ACCESS.configuration({"nova": ACCESS.options("endpoint_override")})], project="cyborg")


def notify_binding(instance, statuses):
    return nova_client.NovaAPI().notify_binding(instance, statuses)


driver.serve_caller({"notify_binding": notify_binding})
