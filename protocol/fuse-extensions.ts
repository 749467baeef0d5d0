/**
 * What follows the names of a creating request once SECURITY_CTX or CREATE_SUPP_GROUP was negotiated.
 *
 * Each extension starts with its size, header included and padded to 8 bytes, and its type. The list starts right
 * behind the last name's NUL, so it is not aligned.
 *
 * @see linux/fuse.h
 */
import { pad, struct, u32, type ValueOf } from './struct.ts';

export const ExtHeader = struct('fuse_ext_header', 8, {
  size: u32, // bytes of the extension, this header included
  type: u32, // FuseExtType
});
export type ExtHeader = ValueOf<typeof ExtHeader>;

/** An ExtHeader whose type is at most FuseExtType.MAX_NR_SECCTX is one of these; `nrSecctx` Secctx follow. */
export const SecctxHeader = struct('fuse_secctx_header', 8, { size: u32, nrSecctx: u32 });
export type SecctxHeader = ValueOf<typeof SecctxHeader>;

/** The xattr's name, NUL-terminated, and `size` octets of context follow. */
export const Secctx = struct('fuse_secctx', 8, { size: u32, padding: pad(4) });
export type Secctx = ValueOf<typeof Secctx>;

/** Follows an ExtHeader of type FuseExtType.GROUPS; `nrGroups` gids of 32 bits follow. */
export const SuppGroups = struct('fuse_supp_groups', 4, { nrGroups: u32 });
export type SuppGroups = ValueOf<typeof SuppGroups>;
