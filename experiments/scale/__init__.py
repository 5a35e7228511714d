"""Measurements of what outgrows one machine's memory."""
