"""Copies everything that a running MLflow server has, into a database and an artifact store of ours.

Into the store itself, not through a server's API: ids, version numbers and times are to be kept, which no client may
set. Each thing is remembered, as it was there, once it is here whole; so an import that was broken off goes on where
it stopped, and one that is repeated copies only what is new. Nothing that is only here is ever removed.

The order is that of reference: experiments, runs, logged models, registered models, versions, aliases. A version is
frozen, as at a registration, with the digests that its files had when they came here.
"""
