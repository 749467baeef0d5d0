/** placeholder */
export interface IommuRegion {
  readonly x?: never;
}
