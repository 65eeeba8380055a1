"""The Models dialog: which encoders and heads there are, what they are, more of them, fewer."""
