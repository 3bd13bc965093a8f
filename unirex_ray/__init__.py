"""unirex_ray: distributed training, search and comparison of language-model rationale extractors (UNIREX)."""

__version__ = "0.1.0"
