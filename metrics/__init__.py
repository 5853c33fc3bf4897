"""How good the pictures are: scores, each with the card that says what was measured.

Takes batches of uint8 NCHW and never knows where they came from.
"""
