"""Delivery is what happens to a record after its commit: scan, choose, seal, send, settle and poll.

Its packages form one chain:
context → gates → scheduling → scanning → sealing → isolation → settling → polling → sending → loop.
A package imports only from those before it, and it must not import Celery, the admin or a management command.
The public interface is ``evermuse_outbox.delivery.loop``; the other packages are its steps.
"""
