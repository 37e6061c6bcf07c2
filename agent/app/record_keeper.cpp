// SPDX-License-Identifier: Apache-2.0
#include "app/record_keeper.hpp"

#include <vector>

#include "app/connections.hpp"
#include "base/log.hpp"
#include "datapath/book_audit.hpp"
#include "datapath/owners.hpp"

namespace mesh::app {
namespace {

constexpr base::log::Logger kLog{"records"};

/// The records of connections that are older than `age`.
base::Result<std::vector<mesh_owner>> old_records(const datapath::MapSet& maps, base::Duration age) {
  const auto born = static_cast<std::uint64_t>((base::steady_now() - age).time_since_epoch().count());
  std::vector<mesh_owner> records;
  const auto memory = MESH_TRY(datapath::OwnerMemory::map(maps, datapath::Access::kRead));
  memory.for_each([&](const mesh_owner& record) {
    if (record.start_ns < born) records.push_back(record);
  });
  return records;
}

}  // namespace

void RecordKeeper::start() {
  auto census = datapath_.make_census();
  if (!census) {
    kLog.warn("records whose socket is gone are not found", {{"err", census.error()}});
    state_.error = std::move(census.error());
    return;
  }
  census_ = std::move(*census);
  thread_ = std::thread([this] { run(); });
}

void RecordKeeper::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

RecordKeeper::State RecordKeeper::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

void RecordKeeper::run() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, options_.interval, [this] { return stopping_; })) {
    State next = state_;
    lock.unlock();
    const bool knew = next.error.has_value();
    next.error.reset();
    if (auto done = look(next); !done) {
      if (!knew) kLog.warn("records whose socket is gone are not found", {{"err", done.error()}});
      next.error = std::move(done.error());
    }
    lock.lock();
    state_ = std::move(next);
  }
}

base::Result<void> RecordKeeper::look(State& state) {
  const std::vector<mesh_owner> records = MESH_TRY(old_records(datapath_.maps(), options_.interval));
  datapath::CensusPass pass;
  if (!records.empty()) pass = MESH_TRY(census_->pass(records));
  const datapath::StaleRecords::Verdict verdict = stale_.look(records, pass);
  const std::size_t freed = MESH_TRY(datapath::free_records(datapath_.maps(), verdict.gone));
  ++state.passes;
  state.freed += freed;
  state.unreachable = verdict.unreachable;
  if (freed == 0) return {};
  const mesh_owner& example = verdict.gone.front();
  kLog.warn("records freed whose socket is gone", {{"records", freed},
                                                   {"service", frontend_of(example).to_string()},
                                                   {"endpoint", backend_of(example).to_string()},
                                                   {"pid", example.pid},
                                                   {"command", process_of(example)}});
  return {};
}

}  // namespace mesh::app
