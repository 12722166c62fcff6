"""Where images come from: folders, manifests, data sets, and the demo's two domains."""

from adaptune.data.datasets import from_datasets
from adaptune.data.domains import DomainData, Loading
from adaptune.data.listing import Shares
from adaptune.data.opening import open_domains

__all__ = ["DomainData", "Loading", "Shares", "from_datasets", "open_domains"]
