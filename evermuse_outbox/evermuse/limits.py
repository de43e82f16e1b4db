"""The limits that Evermuse publishes, each with its source.

"Reference" is the page API reference, section API Limits. "OpenAPI" is the OpenAPI 3.1 document of ``/api/v1/ingest``.
Lengths of text are in characters (code points), as in JSON Schema. Sizes are in bytes, other numbers are counts.
"""

from sys import float_info

# One request
MAX_BATCH_RECORDS = 1_000  # reference; OpenAPI IngestRequest.maxItems
MAX_BODY_BYTES = 5_000_000  # reference: "5 MB". MB is read as 10^6 bytes, because 5 MiB might be too much.
MAX_BATCH_ATTACHMENTS = 1_000  # reference
MAX_IDEMPOTENCY_KEY = 256  # OpenAPI, header Idempotency-Key

# A record that is alone in a request: its NDJSON line and a newline must fit into the body.
MAX_RECORD_BYTES = MAX_BODY_BYTES - 1

# One API key
RATE_LIMIT = 10  # requests in any second, reads included; reference

# One workspace of Evermuse
MAX_KEYS = 10  # API keys; page about authentication

# One answer
MAX_LISTED_ERRORS = 20  # OpenAPI IngestAcceptedResponse.errors
MAX_LISTING = 100  # OpenAPI listBatches, query limit
MAX_CURSOR = 256  # OpenAPI listBatches, query cursor
MAX_BATCH_ID = 128  # OpenAPI IngestAcceptedResponse.batchId
MAX_ERROR_CODE = 64  # OpenAPI IngestRecordError.code, ErrorResponse.error
MAX_ERROR_MESSAGE = 2_048  # OpenAPI IngestRecordError.message, ErrorResponse.message

# One record: OpenAPI IngestRecord
MAX_PRODUCT_ID = 128
MAX_PROJECT_ID = 128
MAX_THREAD_ID = 512
MAX_PARTICIPANTS = 5_000
MAX_ATTACHMENTS = 10
MAX_TAGS = 200
MAX_TAG = 64
MAX_ITEMS = {"_participants": MAX_PARTICIPANTS, "_attachments": MAX_ATTACHMENTS, "_tags": MAX_TAGS}

# One attachment
MAX_ATTACHMENT_BYTES = 2_000_000_000  # reference: "2 GB". For hosts: this package does not read files.
MAX_URL = 2_048  # OpenAPI Attachment.vendor_url

# The maximum nesting of `data`. Evermuse publishes none. Many JSON parsers have a limit between 100 and 1,000 levels.
MAX_DEPTH = 100

# An invalid record. These limits are of this package: without them, each of millions of errors would be an object.
MAX_RECORD_ERRORS = 100  # errors that are listed for one record
MAX_CALL_ERRORS = 1_000  # errors that are listed for one call of enqueue_many

# Numbers: most JSON parsers read a double. They may refuse a request with all its records for one larger number.
MAX_NUMBER = int(float_info.max)
