"""HTTP: middleware, bodies, errors, caching, the description of the API, HTML pages."""
