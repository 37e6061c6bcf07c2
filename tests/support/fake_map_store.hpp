// SPDX-License-Identifier: Apache-2.0
// Kernel tables in memory, for tests and benchmarks: counts and can refuse writes, and has readers that can be stopped
// between any two steps, as a preempted hook can.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "datapath/map_store.hpp"
#include "model/service.hpp"

namespace mesh::support {

class FakeMapStore final : public datapath::MapStore {
 public:
  explicit FakeMapStore(const datapath::TableSizes& sizes);

  /// The `at`-th write from now (0: the next one) and the `times - 1` after it fail with `errnum` and write nothing.
  void fail(std::uint64_t at, int errnum, std::uint64_t times = 1);
  /// Called after each write that succeeded.
  void after_each_write(std::function<void()> hook) { hook_ = std::move(hook); }
  [[nodiscard]] std::uint64_t writes() const { return writes_; }

  [[nodiscard]] const datapath::TableSizes& sizes() const override { return sizes_; }
  base::Result<void> write_backend(std::uint32_t id, const mesh_backend& backend) override;
  base::Result<void> write_slots(std::uint32_t base, std::span<const mesh_slot> slots) override;
  base::Result<void> write_range(std::uint32_t id, const mesh_range& range) override;
  base::Result<void> write_service(std::uint32_t id, const mesh_service& service) override;
  base::Result<void> store_state(std::uint32_t service_id, std::uint64_t state) override;
  base::Result<void> write_frontend(const mesh_frontend_key& key, std::uint32_t service_id) override;
  base::Result<void> erase_frontend(const mesh_frontend_key& key) override;
  [[nodiscard]] mesh_backend backend(std::uint32_t id) const override { return backends_.at(id); }
  [[nodiscard]] mesh_slot slot(std::uint32_t index) const override { return slots_.at(index); }
  [[nodiscard]] mesh_range range(std::uint32_t id) const override { return ranges_.at(id); }
  [[nodiscard]] mesh_service service(std::uint32_t id) const override { return services_.at(id); }
  [[nodiscard]] std::uint64_t state(std::uint32_t service_id) const override { return states_.at(service_id); }
  base::Result<void> for_each_frontend(
      const std::function<void(const mesh_frontend_key&, std::uint32_t)>& visit) const override;

  [[nodiscard]] std::optional<std::uint32_t> find_frontend(const model::Frontend& frontend) const;

 private:
  base::Result<void> admit(const char* what);
  base::Result<void> written();

  datapath::TableSizes sizes_;
  std::map<model::Frontend, std::uint32_t> frontends_;
  std::vector<mesh_service> services_;
  std::vector<std::uint64_t> states_;
  std::vector<mesh_range> ranges_;
  std::vector<mesh_slot> slots_;
  std::vector<mesh_backend> backends_;
  std::function<void()> hook_;
  std::uint64_t writes_ = 0;
  std::uint64_t calls_ = 0;
  std::uint64_t fail_from_ = 0;
  std::uint64_t fail_until_ = 0;
  int errnum_ = 0;
};

/// What a hook would do with a connection to a frontend. As text, so that a failing test shows it: "not a service",
/// "refused", "error: ..." (something the datapath must never meet), or the whole table, one "address" or
/// "address|alias@threshold" per entry, and the settings that go with it.
class FakeReader {
 public:
  FakeReader(const FakeMapStore& store, const model::Frontend& frontend) : store_(&store), frontend_(frontend) {}

  static constexpr int kSteps = 6;  ///< frontend, service, state, range, slots, backends.
  /// One step further; the last gives the result.
  void step();
  [[nodiscard]] bool done() const { return step_ == kSteps; }
  /// All steps that are left.
  std::string finish();

 private:
  void end(std::string result);

  const FakeMapStore* store_;
  model::Frontend frontend_;
  int step_ = 0;
  std::uint32_t service_id_ = 0;
  std::uint32_t range_id_ = 0;
  mesh_range range_{};
  std::vector<mesh_slot> slots_;
  std::string result_;
};

}  // namespace mesh::support
