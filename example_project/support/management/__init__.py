"""Management commands of the support desk."""
