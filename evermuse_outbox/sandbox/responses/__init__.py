"""HTTP responses of the sandbox: successes, and errors in the published envelope.

The package must not depend on the state of the sandbox. Its public interface is :class:`Response`,
:class:`RequestRefused`, :func:`encode_json`, and the error codes.
"""

from .response import ERROR_CODES, VALIDATION_ERROR, RequestRefused, Response, encode_json, error_code

__all__ = ["ERROR_CODES", "VALIDATION_ERROR", "RequestRefused", "Response", "encode_json", "error_code"]
