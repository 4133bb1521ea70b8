"""Reports of clusters: one HTML file that needs no network and no other package."""

from ._page import ClusterSection, Page, Sample, write_page
from ._pictures import image_tags

__all__ = ["ClusterSection", "Page", "Sample", "image_tags", "write_page"]
