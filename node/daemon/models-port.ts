import type { OwnerPort } from '../api/port.ts';
import type { MemberModels } from './member-models.ts';

type ModelsPort = Pick<
  OwnerPort,
  'models' | 'addModels' | 'removeModels' | 'allModels' | 'endpoint' | 'setEndpoint'
>;

/** What an owner may ask of the machine's models. */
export const modelsPort = (models: MemberModels): ModelsPort => ({
  models: () => models.servers.list(),
  addModels: (url) => models.servers.add(url),
  removeModels: (url) => models.servers.remove(url),
  allModels: () => models.list(),
  endpoint: () => models.endpoint.state(),
  setEndpoint: (wish) => models.endpoint.set(wish),
});
