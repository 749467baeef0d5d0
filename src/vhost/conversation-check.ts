/** What a message has that the specification does not allow. */
import { hasBit } from '../../protocol/bits.ts';
import { FrontendRequest, ProtocolFeature, VhostUserHeader } from '../../protocol/vhost-user.ts';
import { MemoryTable, U64 } from '../../protocol/vhost-user-payloads.ts';
import { backendRow, frontendRow } from '../../protocol/vhost-user-requests.ts';
import { protocolFeatureNames } from './conversation-names.ts';
import { decoded, payloadOf, vringFd } from './conversation-payload.ts';
import { hasSaneFlags, type MessageRecord } from './conversation-record.ts';

/**
 * @param isAnswer whether a message of this direction is a reply
 * @param negotiated protocol features; undefined if that is not known
 * @returns one text for each thing
 */
export function outOfSpec(
  record: MessageRecord,
  isAnswer: boolean,
  negotiated: bigint | undefined,
): readonly string[] {
  const { chan, octets } = record;
  const { request, flags, size } = VhostUserHeader.decode(octets);
  const payload = octets.subarray(VhostUserHeader.size);
  const wrong: string[] = [];
  if (!hasSaneFlags(flags, isAnswer)) wrong.push(`flags 0x${flags.toString(16)}`);
  if (size !== payload.length) wrong.push(`${payload.length} bytes of payload, the header says ${size}`);
  const row = chan === 'main' ? frontendRow(request) : backendRow(request);
  if (row === undefined) return [...wrong, `request ${request} is not in the specification`];
  const expected = payloadOf(chan, request, isAnswer);
  if (expected !== undefined && !fits(expected.minSize, expected.maxSize, payload.length)) {
    // Back-ends answer SET_LOG_BASE with anything, and front-ends take it.
    const isLoose = isAnswer && chan === 'main' && request === FrontendRequest.SET_LOG_BASE;
    if (!isLoose)
      wrong.push(`payload of ${payload.length} bytes, allowed ${span(expected.minSize, expected.maxSize)}`);
  } else if (expected !== undefined && expected.maxSize > 0 && decoded(expected, payload) === undefined)
    wrong.push(`payload is no ${expected.name}`);
  if (isAnswer) return wrong;
  if (row.feature !== undefined && negotiated !== undefined && !hasBit(negotiated, row.feature))
    wrong.push(`${protocolFeatureNames(1n << BigInt(row.feature)).join('')} was not negotiated`);
  const count = record.fds.length;
  const { min, max } = wantedFds(record, request, payload) ?? row.fds;
  if (!fits(min, max, count)) wrong.push(`${count} descriptors, allowed ${span(min, max)}`);
  return wrong;
}

/** True if requests that ask for a reply get one. */
export const hasReplyAck = (negotiated: bigint): boolean => hasBit(negotiated, ProtocolFeature.REPLY_ACK);

/** Where the payload says how many descriptors there are. */
function wantedFds(
  { chan }: MessageRecord,
  request: number,
  payload: Uint8Array,
): { readonly min: number; readonly max: number } | undefined {
  if (chan === 'backend') return undefined;
  if (request === FrontendRequest.SET_MEM_TABLE)
    return exactly(decoded(MemoryTable, payload)?.regions.length);
  const isVringFd =
    request === FrontendRequest.SET_VRING_KICK ||
    request === FrontendRequest.SET_VRING_CALL ||
    request === FrontendRequest.SET_VRING_ERR;
  const value = isVringFd ? decoded(U64, payload) : undefined;
  return value === undefined ? undefined : exactly(vringFd(value).nofd ? 0 : 1);
}

const exactly = (count: number | undefined): { readonly min: number; readonly max: number } | undefined =>
  count === undefined ? undefined : { min: count, max: count };
const fits = (min: number, max: number, value: number): boolean => value >= min && value <= max;
const span = (min: number, max: number): string => (min === max ? `${min}` : `${min}..${max}`);
