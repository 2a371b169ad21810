"""Neutron's notifier of Nova, joined to the port table as its core plugin joins it, over a database in memory."""

import threading

from keystoneauth1 import loading
from neutron.conf import common as configuration
from neutron.db import models_v2
from neutron.db.migration.models import head
from neutron.notifiers import nova
from oslo_config import cfg
import sqlalchemy
from sqlalchemy import event, orm

import driver

ACCESS = driver.access()


def configure():
    configuration.register_core_common_config_opts()
    configuration.register_nova_opts()
    loading.register_auth_conf_options(cfg.CONF, configuration.NOVA_CONF_SECTION)
    loading.register_session_conf_options(cfg.CONF, configuration.NOVA_CONF_SECTION)
    # The least: what is queued is sent at once, and then each second what has come meanwhile.
    sections = {"DEFAULT": {"send_events_interval": 1}, "nova": ACCESS.options("endpoint")}
    cfg.CONF(["--config-file", ACCESS.configuration(sections)], project="neutron")


configure()
NOTIFIER = nova.Notifier.get_instance()
for moment in ("after_insert", "after_update"):
    event.listen(models_v2.Port, moment, NOTIFIER.send_port_status)
event.listen(models_v2.Port.status, "set", NOTIFIER.record_port_status_changed)
SAID = driver.Said(nova.__name__)

ENGINE = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.StaticPool)
head.get_metadata().create_all(ENGINE)


def create(instance, ports):
    """Ports of an instance that are not yet wired."""
    with orm.Session(ENGINE) as session, session.begin():
        for port in ports:
            session.add(
                models_v2.Port(
                    id=port,
                    network_id="a-network",
                    mac_address=port,
                    admin_state_up=True,
                    status="DOWN",
                    device_id=instance,
                    device_owner="compute:nova",
                )
            )
    return sent()


def status(ports, to):
    """The agent of the ports' host says that they are wired, say: their status changes."""
    with orm.Session(ENGINE) as session, session.begin():
        for port in session.query(models_v2.Port).filter(models_v2.Port.id.in_(ports)):
            port.status = to
    return sent()


def changed(action, instance, port):
    """A user has changed a port (update_port) or deleted it (delete_port)."""
    body = {"port": {"id": port, "device_id": instance, "device_owner": "compute:nova"}}
    NOTIFIER.send_network_change(action, {}, body)
    return sent()


def sent():
    """Waits for the threads that send. Gives what the notifier said of it."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()
    return SAID.take()


driver.serve_caller({"create": create, "status": status, "changed": changed, "token": NOTIFIER.session.get_token})
