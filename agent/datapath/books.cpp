// SPDX-License-Identifier: Apache-2.0
#include "datapath/books.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "datapath/counters.hpp"
#include "datapath/records.hpp"

namespace mesh::datapath {
namespace {

/// Some elements of an array map, as memory.
class Window {
 public:
  static base::Result<Window> map(const MapSet& maps, Table table, std::uint32_t first, std::uint32_t last) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t stride = maps.stride(table);
    const std::size_t begin = first * stride / page * page;
    const std::size_t length = (last + 1) * stride - begin;
    void* memory = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, maps.fd(table), static_cast<off_t>(begin));
    if (memory == MAP_FAILED) return base::fail_errno(errno, "map " + std::string(to_string(table)) + " into memory");
    return Window(static_cast<std::byte*>(memory), length, begin, stride);
  }
  Window(Window&& other) noexcept
      : memory_(std::exchange(other.memory_, nullptr)),
        length_(other.length_),
        begin_(other.begin_),
        stride_(other.stride_) {}
  Window& operator=(Window&&) = delete;
  ~Window() {
    if (memory_ != nullptr) ::munmap(memory_, length_);
  }

  template <typename T>
  void read(std::uint32_t element, T& value) const {
    std::memcpy(&value, memory_ + (element * stride_ - begin_), std::min(sizeof(T), stride_));
  }

 private:
  Window(std::byte* memory, std::size_t length, std::size_t begin, std::size_t stride)
      : memory_(memory), length_(length), begin_(begin), stride_(stride) {}

  std::byte* memory_;
  std::size_t length_;
  std::size_t begin_;  ///< In the map, bytes.
  std::size_t stride_;
};

}  // namespace

std::uint64_t KernelBooks::connects(std::uint32_t service_id) const {
  return read_service_counts(maps_, service_id).connects;
}

base::Result<void> KernelBooks::read(std::span<const std::uint32_t> backend_ids, const Visit& visit) const {
  if (backend_ids.empty()) return {};
  const auto [first, last] = std::ranges::minmax(backend_ids);
  const Window live = MESH_TRY(Window::map(maps_, Table::kBackendLive, first, last));
  const Window outcomes = MESH_TRY(Window::map(maps_, Table::kBackendOutcomes, first, last));
  Book book;
  for (const std::uint32_t id : backend_ids) {
    live.read(id, book.live);
    outcomes.read(id, book.outcomes);
    visit(id, book);
  }
  return {};
}

void Books::refresh() {
  index_.emplace(store_);
  ++rounds_;
  for (std::uint32_t id = 1; id < store_.sizes().services; ++id) {
    const mesh_service kernel = store_.service(id);
    if ((kernel.flags & MESH_SERVICE_IN_USE) == 0) continue;
    const model::Frontend frontend = frontend_of(kernel.frontend);
    if (!wanted_(frontend)) continue;
    Service& service = services_[id];
    if (service.frontend != frontend) {
      service = {.frontend = frontend, .connects = source_.connects(id)};
      service.known = service.connects == 0;
    }
    service.round = rounds_;
  }
  std::erase_if(services_, [this](const auto& entry) { return entry.second.round != rounds_; });
}

/// Marks the services whose books are to be read.
void Books::take_due(base::TimePoint now) {
  for (auto& [id, service] : services_) {
    const std::uint64_t connects = source_.connects(id);
    if (connects != std::exchange(service.connects, connects)) service.moved_at = now;
    const bool moved = service.moved_at && now - *service.moved_at <= kSettle;
    service.due = moved || !service.known || (service.open && now >= service.look_at);
    if (!service.due) continue;
    service.look_at = now + kOpen;
    service.open = false;  // until a backend says otherwise
  }
}

BookNews Books::note(const BackendIndex::Entry& entry, const Book& book, bool known) {
  Seen next{.generation = entry.backend.generation,
            .opened = static_cast<std::uint32_t>(book.live.opened),
            .closed = static_cast<std::uint32_t>(book.live.closed),
            .established = static_cast<std::uint32_t>(book.live.established),
            .failed = static_cast<std::uint32_t>(book.live.failed)};
  std::ranges::transform(book.outcomes.ended, next.ended.begin(),
                         [](std::uint64_t count) { return static_cast<std::uint32_t>(count); });
  Seen& seen = seen_[entry.id];
  const bool backwards = static_cast<std::int32_t>(next.opened - seen.opened) < 0;
  Seen last = seen;
  seen = next;
  if (last.generation != next.generation || backwards) last = known ? Seen{} : next;
  BookNews news{.opened = next.opened - last.opened,
                .closed = next.closed - last.closed,
                .established = next.established - last.established,
                .failed = next.failed - last.failed};
  std::ranges::transform(next.ended, last.ended, news.ended.begin(),
                         [](std::uint32_t now, std::uint32_t before) { return now - before; });
  return news;
}

base::Result<std::vector<ServiceNews>> Books::look(base::TimePoint now, std::uint64_t applies) {
  if (made_at_ != applies) refresh();
  made_at_ = applies;
  take_due(now);

  std::vector<std::uint32_t> ids;
  std::vector<std::pair<Service*, const BackendIndex::Entry*>> of;  // parallel to ids
  for (auto& [service_id, service] : services_) {
    if (!service.due) continue;
    for (const BackendIndex::Entry& entry : index_->of(service_id)) {
      // Given to another endpoint since the ids were read: the next look has it.
      if (store_.backend(entry.id).generation != entry.backend.generation) continue;
      ids.push_back(entry.id);
      of.emplace_back(&service, &entry);
    }
  }
  std::vector<ServiceNews> result;
  std::size_t at = 0;
  MESH_CHECK(source_.read(ids, [&](std::uint32_t, const Book& book) {
    const auto& [service, entry] = of[at++];
    service->open = service->open || book.live.opened != book.live.closed;
    const BookNews news = note(*entry, book, service->known);
    if (news == BookNews{}) return;
    if (result.empty() || result.back().frontend != service->frontend) result.push_back({service->frontend, {}});
    result.back().backends.push_back({address_of(entry->backend), news, book.live.failures_in_row});
  }));
  for (auto& [service_id, service] : services_) service.known = service.known || service.due;
  return result;
}

}  // namespace mesh::datapath
