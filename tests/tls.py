"""A certificate authority that lives as long as the test run, and a certificate for the hosts of the tests."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import subprocess
import tempfile
import threading
from pathlib import Path

HOSTS = "DNS:api.test,DNS:proxy.test,DNS:localhost,IP:127.0.0.1,IP:::1,IP:2001:db8::1,IP:192.0.2.1"

LEAF = f"""
subjectAltName={HOSTS}
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
authorityKeyIdentifier=keyid
"""


@functools.cache
def ca_file():
    """Return the path of the certificate of the authority, for ``REQUESTS_CA_BUNDLE``."""
    return str(_directory() / "ca.pem")


@functools.cache
def server_context():
    """Return the TLS context of a server with one of the names in ``HOSTS``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_directory() / "server.pem", _directory() / "server.key")
    return context


@functools.cache
def _directory():
    directory = _keep().name
    (Path(directory) / "leaf.cnf").write_text(LEAF)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    _openssl(
        directory,
        ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Test CA"],
        ["-addext", "keyUsage=critical,keyCertSign,cRLSign"],
    )
    _openssl(directory, ["req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=api.test"])
    _openssl(
        directory,
        ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"],
        ["-out", "server.pem", "-days", "2", "-extfile", "leaf.cnf"],
    )
    return Path(directory)


@functools.cache
def _keep():
    return tempfile.TemporaryDirectory()


def _openssl(directory, *arguments):
    command = ["openssl", *(part for group in arguments for part in group)]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)


@contextlib.contextmanager
def tls_in_front_of(address):
    """Accept TLS connections and pass their bytes on to the server at ``address``. Yield the address to connect to."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as opened:

        def serve():
            while True:
                try:
                    connection = opened.enter_context(listener.accept()[0])
                except OSError:
                    return
                threading.Thread(target=handle, args=[connection], daemon=True).start()

        def handle(accepted):
            with (
                contextlib.suppress(OSError),
                server_context().wrap_socket(accepted, server_side=True) as connection,
                socket.create_connection(address) as server,
            ):
                back = threading.Thread(target=copy, args=[server, connection], daemon=True)
                back.start()
                copy(connection, server)
                back.join(10)

        def copy(source, target):
            with contextlib.suppress(OSError):
                while data := source.recv(65_536):
                    target.sendall(data)
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
