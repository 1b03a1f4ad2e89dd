"""What Forebay thinks: pure functions of plain values. No I/O, no clock, no asyncio."""
