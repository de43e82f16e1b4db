"""What Evermuse is: its limits, its record, its endpoints. Nothing in this room knows of the database."""
