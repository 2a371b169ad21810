"""python-novaclient: server_external_events.create, with the version that the task names."""

from novaclient import client

import driver

SESSION = driver.access().session()


def create(version, events):
    nova = client.Client(version, session=SESSION)
    return nova.server_external_events.create(events)


driver.serve_caller({"create": create, "token": SESSION.get_token})
