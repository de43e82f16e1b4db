"""Admin pages for the tables of the support desk."""

from django.contrib import admin

from .models import Conversation, Email, Message


@admin.register(Conversation)
class ConversationAdmin(admin.ModelAdmin):
    """List, search and edit conversations."""

    list_display = ["subject", "customer_name", "customer_email", "opened_at"]
    search_fields = ["subject", "customer_email"]


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin):
    """List and edit messages."""

    list_display = ["conversation", "author_name", "from_customer", "sent_at"]
    list_select_related = ["conversation"]
    raw_id_fields = ["conversation"]


@admin.register(Email)
class EmailAdmin(admin.ModelAdmin):
    """List, search and edit imported mails."""

    list_display = ["subject", "sender", "sent_at", "imported_at"]
    search_fields = ["message_id", "subject"]
    readonly_fields = ["fingerprint"]
