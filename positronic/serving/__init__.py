"""One inference API for every vendor, hosted by LitServe."""
