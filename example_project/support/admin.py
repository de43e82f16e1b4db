"""Plain admin pages for the desk's tables."""

from django.contrib import admin

from .models import Conversation, Email, Message


@admin.register(Conversation)
class ConversationAdmin(admin.ModelAdmin):
    list_display = ["subject", "customer_name", "customer_email", "opened_at"]
    search_fields = ["subject", "customer_email"]


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin):
    list_display = ["conversation", "author_name", "from_customer", "sent_at"]
    list_select_related = ["conversation"]
    raw_id_fields = ["conversation"]


@admin.register(Email)
class EmailAdmin(admin.ModelAdmin):
    list_display = ["subject", "sender", "sent_at", "imported_at"]
    search_fields = ["message_id", "subject"]
    readonly_fields = ["fingerprint"]
