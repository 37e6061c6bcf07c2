// SPDX-License-Identifier: Apache-2.0
// OpenSSL's state of one thread. OpenSSL 3 takes locks of its library context for every handshake: threads that share
// one get in each other's way (two threads do 1.4 times the work of one; with a context each twice).
#pragma once

#include <memory>
#include <mutex>

struct evp_cipher_st;
struct ossl_lib_ctx_st;
struct x509_store_st;

namespace mesh::tls {

class Library {
 public:
  /// A context of its own, for a worker that makes many handshakes.
  static std::shared_ptr<const Library> make();
  /// The process's, for everybody else.
  static std::shared_ptr<const Library> shared();
  ~Library();
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  [[nodiscard]] ossl_lib_ctx_st* get() const { return context_; }                      ///< nullptr is the process's.
  [[nodiscard]] const evp_cipher_st* ticket_cipher() const { return ticket_cipher_; }  ///< AES-256-CBC
  /// The system's trusted issuers, read at the first call.
  [[nodiscard]] x509_store_st* system_trust() const;

 private:
  explicit Library(ossl_lib_ctx_st* context);
  ossl_lib_ctx_st* context_;
  evp_cipher_st* ticket_cipher_;
  mutable std::once_flag system_trust_once_;
  mutable x509_store_st* system_trust_ = nullptr;
};

}  // namespace mesh::tls
