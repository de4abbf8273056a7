"""Pages for people: HTML that the server renders, with nothing loaded from elsewhere and no script."""
