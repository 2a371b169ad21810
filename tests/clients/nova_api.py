"""Nova's own API over the pipeline that it ships, with the rows of its database told by the test.

It is started with one argument in JSON: `folder`; `port`; and `keystone`, {url, user, password, project} for its token
middleware, without which everyone is let in as an administrator. What it would send to hosts is kept, and told.
"""

# autopep8: off
from nova import monkey_patch; monkey_patch.patch(backend="threading")  # noqa: E702  Before all else, as it asks.
# autopep8: on

import json
import pathlib
import sys
import uuid

from nova import config, objects
from nova.compute import rpcapi
from paste import deploy

import driver
import web

GIVEN = json.loads(sys.argv.pop())
FOLDER = pathlib.Path(GIVEN["folder"])
PASTE = pathlib.Path(sys.prefix) / "etc" / "nova" / "api-paste.ini"
# Where its instances are: by id, the host (None for none), and those of a migration.
INSTANCES = {}
DELIVERED = []
ACTIONS = []
REQUESTS = []


def configuration():
    sections = {
        "DEFAULT": {"transport_url": "fake://", "log_dir": FOLDER, "state_path": FOLDER},
        "oslo_concurrency": {"lock_path": FOLDER},
    }
    if keystone := GIVEN.get("keystone"):
        sections["keystone_authtoken"] = {
            "www_authenticate_uri": keystone["url"],
            "auth_url": keystone["url"],
            "auth_type": "password",
            "username": keystone["user"],
            "password": keystone["password"],
            "project_name": keystone["project"],
            "user_domain_name": "Default",
            "project_domain_name": "Default",
            # A revoked token is then noticed at once.
            "token_cache_time": -1,
        }
    return driver.configuration(FOLDER / "nova.conf", sections)


def pipeline():
    """The shipped pipeline; without a Keystone, with one of ours in the place of the token middleware."""
    text = PASTE.read_text()
    if not GIVEN.get("keystone"):
        text = text.replace(" authtoken ", " anyone ")
        text += "\n[filter:anyone]\npaste.filter_factory = web:administrator\n"
    path = FOLDER / "api-paste.ini"
    path.write_text(text)
    return path


CELL = dict(uuid=str(uuid.uuid4()), name="cell", database_connection="sqlite://", transport_url="none://")


def mappings(context, instance_uuids):
    cell = objects.CellMapping(context, **CELL)
    known = [instance for instance in instance_uuids if instance in INSTANCES]
    return [
        objects.InstanceMapping(context, instance_uuid=instance, cell_mapping=cell) for instance in known
    ]


def instances(context, filters, expected_attrs):
    found = []
    for instance in filters["uuid"]:
        row = INSTANCES[instance]
        migration = None
        if row["migration"]:
            migration = objects.MigrationContext(context, instance_uuid=instance, migration_id=row["id"])
        found.append(
            objects.Instance(context, uuid=instance, host=row["host"], migration_context=migration)
        )
    return found


def migration(context, migration_id):
    source, destination = next(row["migration"] for row in INSTANCES.values() if row["id"] == migration_id)
    return objects.Migration(
        context, source_compute=source, dest_compute=destination, cross_cell_move=False
    )


def action_start(context, instance_uuid, action_name, want_result=True):
    ACTIONS.append({"instance": instance_uuid, "action": action_name, "request_id": context.request_id})


def deliver(self, context, instances, events, host=None):
    told = [
        {"instance": event.instance_uuid, "name": event.name, "tag": event.tag, "status": event.status}
        for event in events
    ]
    DELIVERED.append({"host": host, "events": told, "request_id": context.request_id})


def stub():
    """The database, and the way to the hosts."""
    objects.InstanceMappingList.get_by_instance_uuids = staticmethod(mappings)
    objects.InstanceList.get_by_filters = staticmethod(instances)
    objects.Migration.get_by_id = staticmethod(migration)
    objects.InstanceAction.action_start = staticmethod(action_start)
    rpcapi.ComputeAPI.external_instance_event = deliver


def noted(app):
    """Notes each request as it comes in, before Nova sees it."""

    def application(environ, start_response):
        headers = {name[5:].replace("_", "-").lower(): text for name, text in environ.items() if name[:5] == "HTTP_"}
        request = {"method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"], "headers": headers}
        REQUESTS.append(request)

        def start(status, *more):
            request["status"] = int(status.split()[0])
            return start_response(status, *more)

        return app(environ, start)

    return application


def instance(uuid, host=None, migration=None):
    INSTANCES[uuid] = {"id": len(INSTANCES) + 1, "host": host, "migration": migration}


def seen():
    """What has come in, and what has gone to hosts, since it was last asked."""
    answer = {"requests": REQUESTS[:], "delivered": DELIVERED[:], "actions": ACTIONS[:]}
    for told in (REQUESTS, DELIVERED, ACTIONS):
        told.clear()
    return answer


objects.register_all()
config.parse_args(["nova-api"], default_config_files=[configuration()], configure_db=False)
stub()
URL = web.serve(noted(deploy.loadapp(f"config:{pipeline()}", name="osapi_compute")), GIVEN["port"])
driver.serve({"instance": instance, "seen": seen}, {"url": f"{URL}/v2.1"})
