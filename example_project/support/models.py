"""Tables of the support desk. They do not refer to the outbox; ``desk.py`` writes to both."""

from __future__ import annotations

import hashlib

from django.db import models
from django.urls import reverse
from django.utils import timezone

SUBJECT_LENGTH = 998  # characters; the longest line that RFC 5322 (section 2.1.1) allows


class ConversationQuerySet(models.QuerySet["Conversation"]):
    """Queries for conversations."""

    def with_counts(self) -> ConversationQuerySet:
        """Add ``message_count`` to each conversation and order them from newest to oldest."""
        return self.annotate(message_count=models.Count("messages")).order_by("-opened_at", "-pk")


class Conversation(models.Model):
    """A conversation between one customer and the desk."""

    subject = models.CharField(max_length=200)
    customer_name = models.CharField(max_length=200)
    customer_email = models.EmailField()
    opened_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = ConversationQuerySet.as_manager()

    def __str__(self) -> str:
        return self.subject

    def get_absolute_url(self) -> str:
        """Return the path of the conversation's page."""
        return reverse("conversation", args=[self.pk])


class Message(models.Model):
    """A message in a conversation, written by the customer or by the desk."""

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="messages")
    author_name = models.CharField(max_length=200)
    author_email = models.EmailField()
    from_customer = models.BooleanField(default=True)
    body = models.TextField()
    sent_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["sent_at", "pk"]

    def __str__(self) -> str:
        return f"{self.author_name}: {self.body[:60]}"


class Email(models.Model):
    """An imported mail.

    Message-IDs are case-sensitive, but some databases compare text without regard to case. Besides, different mails can
    have the same Message-ID. So the unique column is ``fingerprint``, made from the Message-ID and the content.
    """

    fingerprint = models.CharField(max_length=64, unique=True, editable=False)
    message_id = models.CharField("Message-ID", max_length=256)
    subject = models.CharField(max_length=SUBJECT_LENGTH, blank=True)
    sender = models.CharField("from", max_length=SUBJECT_LENGTH, blank=True)
    sent_at = models.DateTimeField()
    body = models.TextField(blank=True)
    imported_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.subject or self.message_id


def id_prefix(message_id: str) -> str:
    """Return the first half of ``Email.fingerprint``, common to all mails with a Message-ID: 32 hexadecimal digits."""
    return hashlib.sha256(message_id.encode()).hexdigest()[:32]


def fingerprint(message_id: str, digest: str) -> str:
    """Return the value of ``Email.fingerprint`` for a Message-ID and the SHA-256 of a content: 64 digits."""
    return id_prefix(message_id) + digest[:32]
