"""Cinder's API of Nova: what it sends once a volume has been extended or reimaged."""

from cinder import context
from cinder.common import config  # noqa: F401  It registers the options that its modules read.
from cinder.compute import nova
from oslo_config import cfg

import driver

ACCESS = driver.access()

sections = {
    "DEFAULT": {"auth_strategy": "keystone" if ACCESS.keystone else "noauth"},
    # Where it keeps what it tells users of a failure.
    "database": {"connection": f"sqlite:///{ACCESS.folder}/cinder.sqlite"},
    "nova": ACCESS.options("endpoint"),
}
cfg.CONF(["--config-file", ACCESS.configuration(sections)], project="cinder")
API = nova.API()
CONTEXT = context.get_admin_context()


def extend(servers, volume):
    return API.extend_volume(CONTEXT, servers, volume)


def reimage(servers, volume):
    return API.reimage_volume(CONTEXT, servers, volume)


driver.serve_caller({"extend": extend, "reimage": reimage})
