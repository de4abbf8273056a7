"""Sign in by an OpenID Connect issuer. `issuer` and `id_token` take the extra `oidc`, and are imported when asked."""
