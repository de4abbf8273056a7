"""An OpenID Connect issuer. `issuer` and `id_token` take the extra `oidc`, and are imported only where one is set."""
