"""Small shared things."""
