/** Every bound of the wire, the log and the objects, with its unit and reason. */

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

/** One line of the log, newline included. A line must fit one read and one person's terminal. */
export const entryLineBytesMax = 64 * KiB;
/** Entries in one group commit; bounds the latency of the first of them. */
export const batchEntriesMax = 1024;
/** Bytes in one group commit. */
export const batchBytesMax = 4 * MiB;
/** A segment is closed after the batch that reaches this. */
export const segmentBytes = 64 * MiB;

/**
 * One frame of a control stream: the largest result (an envelope and its artifacts) fits, and an urgent message never
 * waits long behind it.
 */
export const frameBytesMax = 512 * KiB;
/** Bytes a peer may have sent on a session without having been granted more. */
export const sessionCreditBytes = 1 * MiB;
/** The part of the credit that only cancel, pause, heartbeats and grants may use. */
export const sessionReserveBytes = 64 * KiB;
/** Bytes waiting to be sent to one peer; past it the session is closed and begins anew. */
export const sessionQueueBytesMax = 8 * MiB;
/** Messages in one frame. */
export const frameMessagesMax = 256;

/** One chunk of a blob: its digest is what a bad sender is named by. */
export const blobChunkBytes = 1 * MiB;
/** Chunk requests under way on one stream: two chunks and a frame stay under the 4 MiB read buffer. */
export const blobChunksInFlight = 2;
/** The largest blob: its manifest of 32-byte digests stays under a frame. */
export const blobBytesMax = 4 * GiB;
/** All blobs of one data folder. */
export const blobStoreBytesMax = 64 * GiB;

/** A stranger's connection without a pending join request lives this long. */
export const strangerMs = 10_000;
/** Connections of strangers at one time, counted apart from members. */
export const strangersMax = 32;
/** Requests for approval waiting for a person, in all and from one address. */
export const pendingJoinsMax = 8;
/**
 * Requests for approval begun within `pendingJoinMs`: each draws one of 2^30 codes, so somebody between two machines who
 * must hit the code of one hits it once in 16 million tries of five minutes.
 */
export const joinTriesMax = 64;
/** A request for approval waits this long. */
export const pendingJoinMs = 5 * 60_000;

/** @default of the outside contract */
export const heartbeatMs = 5_000;
export const heartbeatIdleMs = 15_000;
export const leaseMs = 15_000;
export const graceMs = 2_000;
/** What was suspended because the owner came back is ended when he stays so long. */
export const evictMs = 60_000;
export const taskTimeoutMs = 30 * 60_000;
/** What a goal may take where nobody says. */
export const turnsDefault = 40;
export const tokensDefault = 2_000_000;
export const healsDefault = 3;
/** Of one goal: it stands in the log, in a line of 64 KiB with all else of its task. */
export const goalCharactersMax = 8192;
/** What works on a goal: a kind of model server, or an agent. */
export const brainPattern = /^[a-z0-9][a-z0-9._-]{0,31}$/;
/** Questions of models that a person answers about one task; characters of a question, and of an answer. */
export const questionsMax = 8;
export const questionCharactersMax = 2048;
export const answerCharactersMax = 4096;
/** Whom a model speaks as. */
export const personaPattern = /^[\p{L}\p{N}][\p{L}\p{N}_-]{0,31}$/u;
/** What kind of work a goal is; how many of these a goal has. */
export const tagPattern = /^[a-z0-9][a-z0-9-]{0,31}$/;
export const tagsMax = 8;
/** Of a note that is remembered, and what it may be about. */
export const noteCharactersMax = 1_000;
/** Of what a model leaves for whoever works there next. */
export const modelNoteCharactersMax = 500;
export const noteTopicPattern = /^[\p{L}\p{N}][\p{L}\p{N} ._-]{0,63}$/u;
export const notePathPattern = /^(?!\/)(?!(?:.*\/)?\.\.(?:\/|$))[^\p{C}]{1,200}$/u;
/** A remembered task has the task's id, a note `n` and the index of its entry. */
export const memoryIdPattern = /^([a-z2-7]{12}|n[0-9]{1,15})$/;
export const inviteMs = 24 * 3_600_000;
/** Attempts running at once over the whole mesh, where its operator has set nothing else: at any time, and while work waits. */
export const ringSlots = 36;
export const elasticSlots = 64;
/** Of either that an operator may set. */
export const capacityMax = 100_000;
/** Slots that one machine may offer. */
export const elasticSlotsMax = 64;

/** Tasks waiting or running at one time; a submission past it is refused with `SF_FULL`. */
export const openTasksMax = 100_000;
/** Of one submitter: a flood of one leaves room for all others. */
export const openPerSubmitterMax = 50_000;
/**
 * Tasks that have ended and stay in the replayed state, those that ended last; older ones are read from the log when
 * asked for. At about 3.5 KB of JSON each a state of them is kept and loaded in about a second.
 */
export const endedTasksMax = 10_000;
/** Machines that run one command and must make the same. */
export const replicasMax = 5;
/** One secret, in bytes: an assignment with 32 of them and the longest spec fits a frame. */
export const secretBytesMax = 4 * KiB;
/** Retries a submitter may ask for. */
export const retriesMax = 20;
/** Priority of a task: what holds where none is asked for, and the highest. */
export const priorityDefault = 50;
export const priorityMax = 100;
/** Tasks that one may come after. */
export const afterMax = 64;
/** Tasks of one group that may run at one time. */
export const groupLimitMax = 4096;
/** The longest that a task may wait, or take as a whole. */
export const deadlineMsMax = 366 * 86_400_000;
/** Tasks sent at once. */
export const batchMax = 256;
/** Their request: they are appended at once, and share what one group commit may hold. */
export const batchRequestBytesMax = 2 * MiB;
/** Attempts lost to faults of machines before the task is given up as `lost`. */
export const machineFaultsMax = 20;
/** Members of one mesh. What grows with it is the roster, which every member holds whole (`rosterBytesMax`). */
export const membersMax = 10_000;
/** Labels of one member, one invite or one task. */
export const labelsMax = 64;
/** Tools that one member names. */
export const toolsMax = 256;
/** Tools that one task asks for. */
export const taskToolsMax = 32;
/** Live invites. */
export const invitesMax = 1024;

/** Bytes of a task's output kept; what comes after is counted, not kept. */
export const logBytesMax = 64 * MiB;
/** Artifacts of one attempt, and the bytes of each. */
export const artifactsMax = 256;
export const artifactBytesMax = 1 * GiB;
/** Bytes of all artifacts of one attempt: what a member may be made to keep until the founder has it. */
export const artifactsTotalBytesMax = 4 * GiB;
/** What a task's workspace may hold. @default */
export const workspaceBytesMax = 8 * GiB;
/** Memory of the whole process tree of a task. @default */
export const memoryBytesMax = 4 * GiB;
/** Processes of a task at one time. @default */
export const processesMax = 512;
/** Objects in a bundle from a stranger, and the bytes they may unpack to. */
export const bundleObjectsMax = 2_000_000;
export const bundleUnpackedBytesMax = 8 * GiB;

/** A signed receipt or verification: in base64, that of any task whose submission fits an entry line; half a frame. */
export const envelopeBytesMax = 128 * KiB;
/** Body of a `/v1` request that is not a blob. */
export const requestBytesMax = 256 * KiB;
/** Items in one page of a list. */
export const pageItemsMax = 1000;

/** Replicas that acknowledgements may wait for; more make no log safer, and each more makes it slower. */
export const durabilityMax = 16;

/** What an owner may give tasks of the processors, as cgroups have it: a hundred times what another program has. */
export const cpuWeightMax = 10_000;
