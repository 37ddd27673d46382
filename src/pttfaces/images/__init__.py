"""Pictures from the web and from the inbox: fetching, checking by bytes, storing, the ledger.

`download` does all of it. Knows links and files; knows nothing of boards, faces or models.
"""

from pttfaces.images.download import Report, download
from pttfaces.images.ledger import LINK_FIELDS
from pttfaces.images.outcome import Limits

__all__ = ["LINK_FIELDS", "Limits", "Report", "download"]
