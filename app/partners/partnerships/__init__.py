"""Partnerships: the written terms between the movement and a partner."""
