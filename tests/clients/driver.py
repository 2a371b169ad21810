"""What the drivers share: a line of JSON on the input is a task, a line on the output is what came of it.

A driver is started with one argument, its access in JSON:

    endpoint  where os-server-external-events is, as a catalog has it; used where there is no Keystone
    keystone  {url, user, password, project}, the caller's own; the endpoint is then looked up in its catalog
    folder    a folder for the caller's files
"""

import json
import logging
import os
import re
import sys


class Access:
    """How a caller is told where to send, and who it is."""

    def __init__(self, given):
        self.endpoint = given.get("endpoint")
        self.keystone = given.get("keystone")
        self.folder = given["folder"]

    def options(self, endpoint_option):
        """What an operator writes into the section of the configuration that says how Nova is reached."""
        if self.keystone is None:
            return {"auth_type": "none", endpoint_option: self.endpoint}
        return {
            "auth_type": "password",
            "auth_url": self.keystone["url"],
            "username": self.keystone["user"],
            "password": self.keystone["password"],
            "project_name": self.keystone["project"],
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        }

    def session(self):
        """A session of keystoneauth with these options, for a caller that is handed one."""
        from keystoneauth1 import loading, session

        options = self.options("endpoint")
        plugin = loading.get_plugin_loader(options.pop("auth_type"))
        return session.Session(auth=plugin.load_from_options(**options))

    def configuration(self, sections):
        """A file for oslo.config. Gives its path."""
        return configuration(os.path.join(self.folder, "caller.conf"), sections)


def configuration(path, sections):
    """Writes a file for oslo.config. Gives its path."""
    with open(path, "w", encoding="utf-8") as file:
        for section, options in sections.items():
            file.write(f"[{section}]\n")
            file.writelines(f"{name} = {value}\n" for name, value in options.items())
    return str(path)


class Replies(logging.Handler):
    """The HTTP replies that the caller's session saw, read off what it logs by itself."""

    REQUEST = re.compile(r"REQ: curl .*?-X (\S+) '?([^'\s]+)")
    REPLY = re.compile(r"RESP: \[(\d+)\] ?(.*)", re.DOTALL)
    BODY = re.compile(r"RESP BODY: (.*)", re.DOTALL)

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.seen = []
        self._asked = None
        root = logging.getLogger()
        root.addHandler(self)
        root.setLevel(logging.DEBUG)

    def emit(self, record):
        said = record.getMessage()
        if request := self.REQUEST.match(said):
            self._asked = request.groups()
        elif (reply := self.REPLY.match(said)) and self._asked:
            method, url = self._asked
            self.seen.append({"method": method, "url": url, "status": int(reply[1])})
        elif (body := self.BODY.match(said)) and self.seen and self.seen[-1]["method"] == "POST":
            self.seen[-1]["codes"] = codes(body[1])

    def take(self):
        seen, self.seen = self.seen, []
        return seen


def codes(body):
    """The codes of a reply's events, if it has events."""
    try:
        return [event["code"] for event in json.loads(body)["events"]]
    except (ValueError, KeyError, TypeError):
        return None


class Said(logging.Handler):
    """What the caller logged about its own work, for one that reports in no other way."""

    def __init__(self, name, level=logging.INFO):
        super().__init__(level)
        self._said = []
        logger = logging.getLogger(name)
        logger.addHandler(self)
        logger.setLevel(logging.DEBUG)

    def emit(self, record):
        self._said.append({"level": record.levelname, "message": record.getMessage()})

    def take(self):
        said, self._said = self._said, []
        return said


def access():
    return Access(json.loads(sys.argv[1]))


# What libraries print is not to come between the answers.
ANSWERS = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
os.dup2(2, 1)


def serve(tasks, ready, more=dict):
    """Says that it is ready, and does what it is told, task by task, until its input ends."""
    ANSWERS.write(json.dumps(ready) + "\n")
    for line in sys.stdin:
        task = json.loads(line)
        answer = {}
        try:
            answer["report"] = tasks[task.pop("do")](**task)
        except Exception as error:  # The caller's own way of saying that it failed.
            answer["raised"] = {"type": type(error).__name__, "message": str(error)}
        answer.update(more())
        ANSWERS.write(json.dumps(answer) + "\n")
    # The threads of a server have no end of their own.
    os._exit(0)


def serve_caller(tasks):
    """The same for a caller, with what it was replied at each task."""
    replies = Replies()
    serve(tasks, {}, lambda: {"replies": replies.take()})
