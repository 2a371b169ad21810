"""A web server for the services that others wrote, on a loopback port."""

import socket
import threading

from cheroot import wsgi


class Server(wsgi.Server):
    """One whose port can be taken again at once, by the same service started once more."""

    @classmethod
    def prepare_socket(cls, *args, **kwargs):
        prepared = super().prepare_socket(*args, **kwargs)
        prepared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return prepared


def serve(app, port):
    """Serves in threads of its own until the process ends. Gives the address; a port of 0 takes a free one."""
    server = Server(("127.0.0.1", port), app, numthreads=4)
    server.prepare()
    threading.Thread(target=server.serve, daemon=True).start()
    host, port = server.bind_addr[:2]
    return f"http://{host}:{port}"


def administrator(_global, **_local):
    """A filter that lets everyone in, as Nova's token middleware lets in an administrator of the path's project."""

    def known(app):
        def application(environ, start_response):
            first, _, rest = environ["PATH_INFO"].strip("/").partition("/")
            who = {"USER_ID": "anyone", "PROJECT_ID": first if rest else "anywhere", "ROLES": "admin"}
            environ.update({f"HTTP_X_{name}": text for name, text in who.items()})
            environ["HTTP_X_IDENTITY_STATUS"] = "Confirmed"
            return app(environ, start_response)

        return application

    return known
