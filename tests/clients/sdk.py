"""openstacksdk: its own call for these events, and a plain post through its compute adapter."""

import openstack

import driver

ACCESS = driver.access()


def connection():
    options = ACCESS.options("endpoint")
    auth_type = options.pop("auth_type")
    return openstack.connect(load_yaml_config=False, load_envvars=False, auth_type=auth_type, auth=options)


CONNECTION = connection()


def create(events):
    return [event.to_dict(computed=False) for event in CONNECTION.compute.create_server_external_events(events)]


def post(version, events):
    reply = CONNECTION.compute.post("/os-server-external-events", json={"events": events}, microversion=version)
    return {"status": reply.status_code, "body": reply.json()}


driver.serve_caller({"create": create, "post": post, "token": CONNECTION.session.get_token})
