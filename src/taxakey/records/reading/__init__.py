"""Files of records, whatever their form, read as streams into tables."""
