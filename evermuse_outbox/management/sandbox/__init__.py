"""The options of ``evermuse_sandbox``, and the client that controls a sandbox in another process.

The package must not serve requests: that is the task of ``evermuse_outbox.sandbox``. Its public interface is
:class:`SandboxClient`, :func:`add_options` and :func:`read_secret`.
"""

from .client import SandboxClient
from .options import add_options, read_secret

__all__ = ["SandboxClient", "add_options", "read_secret"]
