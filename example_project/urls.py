"""URLs of the example project: the support desk, its health check and the admin."""

from django.contrib import admin
from django.urls import include, path

from .support import views

urlpatterns = [
    path("", views.conversation_list, name="conversations"),
    path("conversations/<int:pk>/", views.conversation_detail, name="conversation"),
    path("health/", views.health, name="health"),
    path("health/outbox/", include("evermuse_outbox.health")),
    path("admin/", admin.site.urls),
]
