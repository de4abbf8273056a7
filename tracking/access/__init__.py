"""Who is who and may do what: users, tokens, scoring keys, roles and grants."""
