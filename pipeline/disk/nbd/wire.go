package nbd

// The numbers of the protocol. Source: doc/proto.md, "Values".
const (
	greetingMagic    = 0x4e42444d41474943 // NBDMAGIC
	optionMagic      = 0x49484156454f5054 // IHAVEOPT
	oldstyleMagic    = 0x00420281861253
	optionReplyMagic = 0x0003e889045565a9
	requestMagic     = 0x25609513
	simpleMagic      = 0x67446698
	structuredMagic  = 0x668e33ef

	// Handshake flags, and the client's answers of the same values.
	fixedNewstyle = 1 << 0
	noZeroes      = 1 << 1

	optExportName      = 1
	optAbort           = 2
	optStartTLS        = 5
	optGo              = 7
	optStructuredReply = 8
	optSetMetaContext  = 10

	repAck         = 1
	repInfo        = 3
	repMetaContext = 4
	repError       = 1 << 31 // bit of all errors

	repUnsupported  = repError + 1
	repPolicy       = repError + 2
	repInvalid      = repError + 3
	repPlatform     = repError + 4
	repTLSRequired  = repError + 5
	repUnknown      = repError + 6
	repShutdown     = repError + 7
	repBlockSizeReq = repError + 8
	repTooBig       = repError + 9

	infoExport    = 0
	infoBlockSize = 3

	// Transmission flags.
	hasFlags     = 1 << 0
	readOnly     = 1 << 1
	sendFlush    = 1 << 2
	sendFUA      = 1 << 3
	sendTrim     = 1 << 5
	sendZeroes   = 1 << 6
	multiConn    = 1 << 8
	sendFastZero = 1 << 11

	cmdRead        = 0
	cmdWrite       = 1
	cmdDisconnect  = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdWriteZeroes = 6
	cmdBlockStatus = 7

	replyDone = 1 << 0 // flag of a reply's last chunk

	chunkNone        = 0
	chunkData        = 1
	chunkHole        = 2
	chunkStatus      = 5
	chunkIsError     = 1 << 15 // bit of all errors
	chunkErrorOffset = chunkIsError + 2
)

// Sizes of messages in bytes.
const (
	requestSize    = 28
	simpleSize     = 16
	structuredSize = 20
	reservedZeroes = 124 // after an export's description, to a client that wants them
)

// Bounds on what a server may say.
const (
	// maxString is the longest name or text. Source: doc/proto.md, "Conventions".
	maxString = 4096
	// maxText is how much of a text for people is kept, in bytes.
	maxText = 1024
	// maxOptionReply is the longest reply to an option, in bytes: the longest
	// string with room for whatever a later protocol puts beside it.
	maxOptionReply = 64 << 10
	// maxOptionReplies is how many replies an option may have; ours have a few.
	maxOptionReplies = 256
	// maxContexts is how many metadata contexts a server may give.
	maxContexts = 64
	// maxErrorChunk is the longest error chunk, in bytes: the longest text that
	// its field of 16 bits can tell of, and as much again for what is unknown.
	maxErrorChunk = 128 << 10
	// maxPayload is the most data of one request in bytes, which every server
	// takes that does not tell of less. Source: doc/proto.md, "Size constraints".
	maxPayload = 32 << 20
	// maxMinimum is the largest minimum block size. Source: the same.
	maxMinimum = 64 << 10
	// maxEffect is the most that one request zeroes, trims or asks the status of:
	// the largest power of two in 32 bits, so that pieces stay aligned.
	maxEffect = 1 << 31
	// maxExtents is the most extents in a chunk. Source: doc/proto.md,
	// NBD_REPLY_TYPE_BLOCK_STATUS.
	maxExtents = 1 << 20
	// maxSpans is in how many places a read may be answered at a time: 4 KiB of
	// the largest read in the worst order.
	maxSpans = maxPayload / 4096 / 2
	// maxOrphans is how many answers a server may owe that nobody waits for.
	maxOrphans = 1024
	// headersAtOnce is how many bytes are read ahead of the parser; payloads
	// beyond it go straight to their buffer.
	headersAtOnce = 4096
)
