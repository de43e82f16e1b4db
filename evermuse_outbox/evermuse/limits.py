"""The numbers that Evermuse publishes, each with its source.

"reference" is the API reference page, "OpenAPI" the OpenAPI 3.1 document of ``/api/v1/ingest``.
Lengths of text are in characters (code points), as JSON Schema counts them; sizes are in bytes.
"""

# One request
MAX_BATCH_RECORDS = 1_000  # reference, API Limits; OpenAPI IngestRequest.maxItems
MAX_BODY_BYTES = 5_000_000  # reference, API Limits: "5 MB"; the smaller reading of it, so never too much
MAX_BATCH_ATTACHMENTS = 1_000  # reference, API Limits
MAX_IDEMPOTENCY_KEY = 256  # OpenAPI, header Idempotency-Key

# A record alone in a request: its NDJSON line and the newline that ends it have to fit the body.
MAX_RECORD_BYTES = MAX_BODY_BYTES - 1

# One API key
RATE_LIMIT = 10  # requests in any second, reads counted too; reference, API Limits

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
MAX_ATTACHMENT_BYTES = 2_000_000_000  # reference, API Limits: "2 GB"; told to hosts, never looked at here
MAX_URL = 2_048  # OpenAPI Attachment.vendor_url

# Ours, where nothing is published: the deepest nesting of `data`. Many parsers stop between 100 and 1,000.
MAX_DEPTH = 100
