"""Keystone, on a database of its own, with users who have one role each in one project.

It is started with one argument in JSON: `folder`, which it keeps everything in and goes on from if it was there
before; `template`, where a folder with its users is kept for the next time; `port`; `expiration`, how
many seconds a token is good for.
"""

import fcntl
import json
import logging
import multiprocessing
import os
import pathlib
import secrets
import shutil
import subprocess
import sys

import openstack
from keystone.cmd import cli
from keystone.server import wsgi
from keystoneauth1 import exceptions

import driver
import web

# Keystone reads what is left of the command line.
GIVEN = json.loads(sys.argv.pop())
FOLDER = pathlib.Path(GIVEN["folder"])
PROJECT = "operations"
# The gateway itself, and callers.
USERS = {"gateway": "service", "service": "service", "admin": "admin", "reader": "reader"}
BOOTSTRAP = {"username": "bootstrap", "password": "bootstrap", "project_name": "bootstrap"}


def configuration(folder):
    sections = {
        "database": {"connection": f"sqlite:///{folder}/keystone.sqlite"},
        "fernet_tokens": {"key_repository": folder / "keys"},
        "fernet_receipts": {"key_repository": folder / "keys"},
        "credential": {"key_repository": folder / "keys"},
        # Passwords are checked often here, and are worth nothing.
        "identity": {"password_hash_rounds": 4},
        "token": {"expiration": GIVEN["expiration"]},
        # A revoked token is then noticed at once, not when a cache says so.
        "cache": {"enabled": "false"},
    }
    return driver.configuration(folder / "keystone.conf", sections)


def manage(folder):
    """What an operator does first. Each command is a process of its own, as it would be."""
    owner = ("--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid()))
    names = [f"--bootstrap-{name.replace('_', '-')}={value}" for name, value in BOOTSTRAP.items()]
    for command in (("db_sync",), ("fernet_setup", *owner), ("bootstrap", *names)):
        arguments = ["keystone-manage", "--config-file", configuration(folder), *command]
        process = multiprocessing.get_context("fork").Process(target=cli.main, args=(arguments,))
        process.start()
        process.join()
        if process.exitcode != 0:
            raise SystemExit(f"keystone-manage {command[0]} ended with {process.exitcode}")


def prepare():
    """Makes the folder. What takes long is made once, by this script without a template, and copied from then on."""
    if GIVEN["template"] is None:
        (FOLDER / "keys").mkdir(mode=0o700)
        manage(FOLDER)
        return
    template = pathlib.Path(GIVEN["template"])
    template.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{template}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            unfinished = template.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            given = json.dumps({**GIVEN, "folder": str(unfinished), "template": None, "port": 0})
            subprocess.run([sys.executable, __file__, given], check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
            unfinished.rename(template)
        shutil.copytree(template, FOLDER, dirs_exist_ok=True)


def connect(user, password, project):
    return openstack.connect(
        load_yaml_config=False,
        load_envvars=False,
        auth_url=f"{URL}/v3",
        identity_endpoint_override=f"{URL}/v3",
        username=user,
        password=password,
        project_name=project,
        user_domain_name="Default",
        project_domain_name="Default",
    )


def populate():
    identity = ADMIN.identity
    roles = {role.name: role.id for role in identity.roles()}
    project = identity.create_project(name=PROJECT, domain_id="default")
    users = {}
    for name, role in USERS.items():
        password = secrets.token_urlsafe(16)
        user = identity.create_user(
            name=name, password=password, domain_id="default", default_project_id=project.id
        )
        identity.assign_project_role_to_user(project, user, roles[role])
        users[name] = {"id": user.id, "password": password}
    return {"project": {"id": project.id, "name": PROJECT}, "users": users}


def endpoint(service_type, url):
    """Puts a service's address into the catalog, or another in its place."""
    identity = ADMIN.identity
    service = next(identity.services(type=service_type), None)
    if service is None:
        service = identity.create_service(type=service_type, name=service_type)
        for interface in ("public", "internal"):
            identity.create_endpoint(service_id=service.id, interface=interface, url=url)
    else:
        for old in identity.endpoints(service_id=service.id):
            identity.update_endpoint(old, url=url)


def token(user):
    """A token by the user's password, with its age as Keystone says it."""
    password = READY["users"][user]["password"]
    access = connect(user, password, PROJECT).session.auth.get_access(ADMIN.session)
    return {"token": access.auth_token, "expires": access.expires.isoformat()}


def revoke(token):
    ADMIN.session.delete(f"{URL}/v3/auth/tokens", headers={"X-Subject-Token": token}, authenticated=True)


def good(token):
    """Whether Keystone itself takes a token as good."""
    try:
        ADMIN.session.get(f"{URL}/v3/auth/tokens", headers={"X-Subject-Token": token}, authenticated=True)
        return True
    except exceptions.NotFound:
        return False


KEPT = FOLDER / "kept.json"
if not KEPT.exists():
    prepare()
os.environ["OS_KEYSTONE_CONFIG_FILES"] = configuration(FOLDER)
URL = web.serve(wsgi.initialize_public_application(), GIVEN["port"])
logging.getLogger().setLevel(logging.WARNING)
ADMIN = connect(BOOTSTRAP["username"], BOOTSTRAP["password"], BOOTSTRAP["project_name"])
if not KEPT.exists():
    KEPT.write_text(json.dumps(populate()))
endpoint("identity", f"{URL}/v3")
READY = json.loads(KEPT.read_text())
driver.serve(
    {
        "compute": lambda url: endpoint("compute", url),
        "token": token,
        "revoke": revoke,
        "good": good,
    },
    {"url": f"{URL}/v3", **READY},
)
