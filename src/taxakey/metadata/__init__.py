"""What is known of a picture besides what it shows: when and where, on what and in which habitat it was found. No torch."""
