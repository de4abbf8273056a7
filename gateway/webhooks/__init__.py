"""Tells those who asked to be told: `deliverer` takes what is due, `requests` sends it, `addresses` says where to."""
