// SPDX-License-Identifier: Apache-2.0
#include "app/book_keeper.hpp"

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/plural.hpp"

namespace mesh::app {
namespace {

constexpr base::log::Logger kLog{"books"};

}  // namespace

void BookKeeper::look(base::TimePoint now) {
  if (now < audit_at_) return;
  audit_at_ = now + interval_;
  State next = state();
  ++next.audits;
  const bool knew = next.error.has_value();
  next.error.reset();
  if (const auto done = audit(next); !done) {
    next.error = done.error();
    if (!knew) kLog.error("books not compared with the records", {{"err", done.error()}});
  }
  const std::lock_guard lock(mutex_);
  state_ = std::move(next);
}

base::Result<void> BookKeeper::audit(State& state) {
  const auto stood = audit_.look(MESH_TRY(datapath::compare_books(maps_)));
  state.standing = stood.size();
  if (stood.empty()) return {};
  MESH_CHECK(datapath::correct_books(maps_, stood));
  state.standing = 0;
  state.repaired += stood.size();
  state.repaired_at = base::wall_now();
  state.last = to_string(stood.front());
  journal_.note({"", std::string(api::history::kRepaired), "", "",
                 fmt::format("books differed from the records of connections: {}, the first: {}",
                             base::counted(stood.size(), "backend"), state.last),
                 1});
  kLog.warn("books differed from the records and were corrected", {{"backends", stood.size()}, {"first", state.last}});
  return {};
}

BookKeeper::State BookKeeper::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

}  // namespace mesh::app
