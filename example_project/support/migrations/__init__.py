"""Database migrations of the support desk."""
