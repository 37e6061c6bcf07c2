// SPDX-License-Identifier: Apache-2.0
#include "app/certificate_keeper.hpp"

#include "base/fd.hpp"
#include "base/log.hpp"
#include "base/random.hpp"

namespace mesh::app {
namespace {

constexpr base::log::Logger kLog{"metrics"};
constexpr std::size_t kPemBytesMax = 256 * 1024;  // a chain of dozens

base::Result<std::shared_ptr<const tls::ServerContext>> make_context(const std::string& chain, const std::string& key) {
  const auto certificate = MESH_TRY(tls::Certificate::parse(chain, key));
  return tls::ServerContext::make({.certificates = {certificate}}, tls::Library::shared());
}

}  // namespace

std::uint64_t CertificateKeeper::Content::hash() const {
  const std::string all = certificate + '\0' + key + '\0' + (unreadable ? unreadable->to_string() : "");
  return base::hash64({reinterpret_cast<const std::uint8_t*>(all.data()), all.size()});
}

base::Result<std::unique_ptr<CertificateKeeper>> CertificateKeeper::open(CertificateFiles files) {
  std::unique_ptr<CertificateKeeper> keeper(new CertificateKeeper(std::move(files)));
  MESH_CHECK(keeper->take(keeper->read()));
  return keeper;
}

void CertificateKeeper::look() {
  const Content content = read();
  const std::uint64_t hash = content.hash();
  if (std::exchange(seen_, hash) != hash || hash == taken_) return;
  if (const auto taken = take(content); !taken) {
    kLog.error("certificate refused: the one before stays in use", {{"err", taken.error()}});
  } else {
    kLog.info("certificate taken",
              {{"file", files_.certificate}, {"expires", base::format_rfc3339(context()->expires())}});
  }
}

CertificateKeeper::Content CertificateKeeper::read() const {
  Content content;
  auto certificate = base::read_file(files_.certificate, kPemBytesMax);
  auto key = base::read_file(files_.key, kPemBytesMax);
  if (!certificate || !key) {
    content.unreadable = certificate ? key.error() : certificate.error();
  } else {
    content.certificate = std::move(*certificate);
    content.key = std::move(*key);
  }
  return content;
}

base::Result<void> CertificateKeeper::take(const Content& content) {
  taken_ = seen_ = content.hash();
  base::Result<std::shared_ptr<const tls::ServerContext>> made = nullptr;
  if (content.unreadable) {
    made = std::unexpected(*content.unreadable);
  } else {
    made = make_context(content.certificate, content.key);
    if (!made) made.error().message += " (" + files_.certificate + ", " + files_.key + ")";
  }
  const std::lock_guard lock(mutex_);
  if (!made) {
    error_ = base::Error(made.error()).within("agent.metrics.tls");
    return std::unexpected(*error_);
  }
  context_ = *made;
  error_.reset();
  return {};
}

std::shared_ptr<const tls::ServerContext> CertificateKeeper::context() const {
  const std::lock_guard lock(mutex_);
  return context_;
}

std::optional<base::Error> CertificateKeeper::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

}  // namespace mesh::app
