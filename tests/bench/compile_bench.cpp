// SPDX-License-Identifier: Apache-2.0
// What it costs the agent to turn routes into kernel tables, without a kernel: the store is memory. Reports the time of
// a cold start, of a restart that finds everything in place, and of one changed service; and the heap of the Compiler
// and its plan (counted by the allocator, peak over the routing table that was there before).
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>

#include "balance/route.hpp"
#include "datapath/compile.hpp"

namespace mesh::datapath {
namespace {

/// Plain memory, as the mapped arrays of the kernel are; frontends in a sorted vector.
class MemoryStore final : public MapStore {
 public:
  explicit MemoryStore(const TableSizes& sizes)
      : sizes_(sizes),
        services_(sizes.services),
        states_(sizes.services),
        ranges_(sizes.ranges),
        slots_(sizes.slots),
        backends_(sizes.backends) {}

  [[nodiscard]] const TableSizes& sizes() const override { return sizes_; }
  base::Result<void> write_backend(std::uint32_t id, const mesh_backend& backend) override {
    backends_[id] = backend;
    return {};
  }
  base::Result<void> write_slots(std::uint32_t base, std::span<const mesh_slot> slots) override {
    std::copy(slots.begin(), slots.end(), slots_.begin() + base);
    return {};
  }
  base::Result<void> write_range(std::uint32_t id, const mesh_range& range) override {
    ranges_[id] = range;
    return {};
  }
  base::Result<void> write_service(std::uint32_t id, const mesh_service& service) override {
    services_[id] = service;
    return {};
  }
  base::Result<void> store_state(std::uint32_t service_id, std::uint64_t state) override {
    states_[service_id] = state;
    return {};
  }
  base::Result<void> write_frontend(const mesh_frontend_key& key, std::uint32_t service_id) override {
    frontends_.emplace_back(key, service_id);
    return {};
  }
  base::Result<void> erase_frontend(const mesh_frontend_key& key) override {
    std::erase_if(frontends_, [&](const auto& one) { return __builtin_memcmp(&one.first, &key, sizeof(key)) == 0; });
    return {};
  }
  [[nodiscard]] mesh_backend backend(std::uint32_t id) const override { return backends_[id]; }
  [[nodiscard]] mesh_slot slot(std::uint32_t index) const override { return slots_[index]; }
  [[nodiscard]] mesh_range range(std::uint32_t id) const override { return ranges_[id]; }
  [[nodiscard]] mesh_service service(std::uint32_t id) const override { return services_[id]; }
  [[nodiscard]] std::uint64_t state(std::uint32_t service_id) const override { return states_[service_id]; }
  base::Result<void> for_each_frontend(
      const std::function<void(const mesh_frontend_key&, std::uint32_t)>& visit) const override {
    for (const auto& [key, id] : frontends_) visit(key, id);
    return {};
  }

 private:
  TableSizes sizes_;
  std::vector<mesh_service> services_;
  std::vector<std::uint64_t> states_;
  std::vector<mesh_range> ranges_;
  std::vector<mesh_slot> slots_;
  std::vector<mesh_backend> backends_;
  std::vector<std::pair<mesh_frontend_key, std::uint32_t>> frontends_;
};

constexpr std::uint32_t kEndpoints = 10;

TableSizes sizes_for(std::uint32_t services) {
  TableSizes sizes;
  sizes.services = std::max(sizes.services, services * 2);
  sizes.ranges = sizes.services * 2;
  sizes.backends = std::max(sizes.backends, services * kEndpoints * 2);
  sizes.slots = std::max(sizes.slots, services * kEndpoints * 4);
  return sizes;
}

model::ServiceRoutePtr make_route(std::uint32_t number, model::Algorithm algorithm, std::uint16_t first_weight = 1) {
  auto service = std::make_shared<model::Service>();
  service->name = fmt::format("service-{}", number);
  service->algorithm = algorithm;
  const auto write = [](base::IpAddress& ip, std::uint8_t net, std::uint32_t host) {
    ip.bytes = {0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0xff,
                0xff,
                net,
                static_cast<std::uint8_t>(host >> 16),
                static_cast<std::uint8_t>(host >> 8),
                static_cast<std::uint8_t>(host)};
  };
  write(service->frontend.address.ip, 240, number);
  service->frontend.address.port = 80;
  service->endpoints.resize(kEndpoints);
  for (std::uint32_t e = 0; e < kEndpoints; ++e) {
    write(service->endpoints[e].address.ip, 10, number * kEndpoints + e);
    service->endpoints[e].address.port = 8080;
  }
  service->endpoints[0].weight = first_weight;
  return balance::route_service(service, nullptr, nullptr);
}

model::RoutingTablePtr make_table(std::uint32_t services, model::Algorithm algorithm) {
  auto table = std::make_shared<model::RoutingTable>();
  table->services.reserve(services);
  for (std::uint32_t i = 0; i < services; ++i) table->services.push_back(make_route(i, algorithm));
  return table;
}

double heap_mib() { return static_cast<double>(mallinfo2().uordblks + mallinfo2().hblkhd) / (1024.0 * 1024.0); }

void cold_start(benchmark::State& state) {
  const auto services = static_cast<std::uint32_t>(state.range(0));
  const auto table = make_table(services, static_cast<model::Algorithm>(state.range(1)));
  double heap = 0;
  for (auto _ : state) {
    state.PauseTiming();
    auto store = std::make_unique<MemoryStore>(sizes_for(services));
    state.ResumeTiming();
    const double before = heap_mib();
    auto compiler = Compiler::recover(*store);
    const auto plan = compiler->compile(table);
    heap = heap_mib() - before;
    if (!plan || !apply(*plan, *store)) state.SkipWithError("failed");
    state.PauseTiming();
    store.reset();
    state.ResumeTiming();
  }
  state.counters["heap_MiB"] = heap;
}
BENCHMARK(cold_start)
    ->ArgNames({"services", "algorithm"})
    ->Args({10000, 1})
    ->Args({10000, 2})
    ->Args({200, 3})
    ->Args({100000, 1})
    ->Unit(benchmark::kMillisecond);

void restart(benchmark::State& state) {
  const auto services = static_cast<std::uint32_t>(state.range(0));
  const auto table = make_table(services, model::Algorithm::kWeightedRandom);
  MemoryStore store(sizes_for(services));
  {
    auto compiler = Compiler::recover(store);
    if (!apply(*compiler->compile(table), store)) state.SkipWithError("failed");
  }
  for (auto _ : state) {
    auto compiler = Compiler::recover(store);
    if (!compiler->compile(table)->empty()) state.SkipWithError("a restart without a change writes");
  }
}
BENCHMARK(restart)->ArgName("services")->Arg(10000)->Arg(100000)->Unit(benchmark::kMillisecond);

void one_change(benchmark::State& state) {
  const auto services = static_cast<std::uint32_t>(state.range(0));
  MemoryStore store(sizes_for(services));
  auto compiler = Compiler::recover(store);
  model::RoutingTablePtr table = make_table(services, model::Algorithm::kWeightedRandom);
  if (!apply(*compiler->compile(table), store)) state.SkipWithError("failed");
  const std::unordered_set<std::uint32_t> none;
  std::uint16_t weight = 1;
  for (auto _ : state) {
    state.PauseTiming();
    auto next = std::make_shared<model::RoutingTable>(*table);
    weight = static_cast<std::uint16_t>(weight % 100 + 1);
    next->services[services / 2] = make_route(services / 2, model::Algorithm::kWeightedRandom, weight);
    state.ResumeTiming();
    const auto plan = compiler->compile(next);
    if (!plan || !apply(*plan, store)) state.SkipWithError("failed");
    state.PauseTiming();
    if (!apply(compiler->release(compiler->seal(), &none), store)) state.SkipWithError("failed");
    table = next;
    state.ResumeTiming();
  }
}
BENCHMARK(one_change)->ArgName("services")->Arg(10000)->Arg(100000)->Unit(benchmark::kMicrosecond);

/// One service of many changes: what the stage before costs.
void route_one_change(benchmark::State& state) {
  const auto services = static_cast<std::uint32_t>(state.range(0));
  const bool probed = state.range(1) != 0;
  const auto probe = std::make_shared<const model::ProbePolicy>();
  auto snapshot = std::make_shared<model::Snapshot>();
  model::HealthView health;
  for (const model::ServiceRoutePtr& route : make_table(services, model::Algorithm::kWeightedRandom)->services) {
    auto service = std::make_shared<model::Service>(*route->service);
    if (probed) {
      service->probe = probe;
      health[service->frontend] = std::make_shared<const model::ServiceHealth>();
    }
    snapshot->services.push_back(service);
  }
  balance::Router router;
  router.route(snapshot, health, {});
  for (auto _ : state) {
    state.PauseTiming();
    auto next = std::make_shared<model::Snapshot>(*snapshot);
    next->services[services / 2] = std::make_shared<model::Service>(*next->services[services / 2]);
    state.ResumeTiming();
    benchmark::DoNotOptimize(router.route(next, health, {}));
    state.PauseTiming();
    next.reset();
    state.ResumeTiming();
  }
}
BENCHMARK(route_one_change)
    ->ArgNames({"services", "probed"})
    ->Args({10000, 0})
    ->Args({10000, 1})
    ->Args({100000, 1})
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace mesh::datapath

BENCHMARK_MAIN();
