"""What measures speed and quality; results/ holds the last figures."""
