"""Ironic: what it sends when it has found that a node's power state is not what Nova has set."""

from ironic.common import context, nova
from ironic.conf import CONF

import driver

ACCESS = driver.access()
CONF(["--config-file", ACCESS.configuration({"nova": ACCESS.options("endpoint_override")})], project="ironic")


def power_update(server, state):
    return nova.power_update(context.get_admin_context(), server, state)


driver.serve_caller({"power_update": power_update})
